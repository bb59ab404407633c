"""Five pretend reseller panels in one process, for the laptop and for the tests.

A request enters at `server`, meets its panel's pace and faults in `exchange`, is read and answered by the panel's
dialect (`template`, `mysticsmm`, `smmafrica`) over the ledger in `panel`, and leaves through `delivery`, whole or
damaged. `profiles` says which panels there are, `faults` what can be made to go wrong, `admin` how tests pull the
strings, `store` what survives a restart. Standard library only.
"""
