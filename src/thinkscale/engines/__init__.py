"""Who writes tokens: models in this process, servers, recordings and fakes behind one protocol."""
