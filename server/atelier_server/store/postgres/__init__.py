"""The store that several processes and machines share: a PostgreSQL database, from version 14 on."""
