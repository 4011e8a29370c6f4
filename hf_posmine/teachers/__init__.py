"""Who scores: retrieval models and lexical indexes behind one Protocol, :class:`hf_posmine.core.types.Teacher`."""
