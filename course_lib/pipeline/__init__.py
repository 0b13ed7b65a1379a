"""From nothing to a model that answers, and its report card.

Chapter 18 builds it. Start with `report_card`.
"""
