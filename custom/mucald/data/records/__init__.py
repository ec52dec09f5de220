"""Which files a site has, of which patients, and which split each falls into."""
