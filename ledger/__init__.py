"""The ledger of one site: a transparency log (`ledger.log`) and what its entries mean."""
