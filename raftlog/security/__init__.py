"""Who is who, and who may do what: certificates, passwords, rules. No sockets."""
