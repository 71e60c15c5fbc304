"""Who calls: keys, tokens of an identity provider, and client certificates become a tenant with scopes."""
