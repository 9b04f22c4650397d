"""What the entries of a site's ledger mean, and whether they obey the rules.

`kinds` says what may be recorded, `rules` what must hold, `audit` checks a whole log against
them, `report` tells people. Stands on `ledger.log` alone: how ε is computed and how a model is
averaged come in as functions."""
