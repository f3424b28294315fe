"""Where people and machines meet the ledger: command line, HTTP, dashboard. No cost logic lives here."""
