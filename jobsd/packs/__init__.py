"""The shipped packs, one folder each. Nothing imports them: their entry points find them."""
