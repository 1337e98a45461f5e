"""Parts that the verbs are made of. None imports a verb or another part; verbs introduce them to each other."""
