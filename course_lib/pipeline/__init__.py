"""From nothing to a model that answers, and its report card.

Chapter 17 builds it. Start with `report_card`.
"""
