"""Signatures of webhooks: Standard Webhooks, GitHub's and Stripe's. Pure: secrets, time and bytes are arguments."""
