"""The differential: each exchange of a corpus goes to an upstream directly, through nginx and through the product, and what the two
proxies changed is compared with what a proxy has to change."""
