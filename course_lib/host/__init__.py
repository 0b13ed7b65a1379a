"""What the machine needs: paths, errors a user can mend, fast matmul on Linux."""
