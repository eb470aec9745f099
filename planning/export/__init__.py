"""Plans handed over to other frameworks, one file a framework."""
