"""A bot for GitHub webhooks: each is accepted once, finds its pull request, issue, repository or account, and is handled in recorded steps."""
