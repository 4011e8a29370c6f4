"""The embedder: decoders made bidirectional, instructions that attend but are not pooled (paper, section 3).

::

    items          (instruction, text) rows and the token boundary between the two
    varlen         attention over unpadded batches
    transformer    InstructionTransformer: rows -> token embeddings and the instruction mask
    pooling        InstructionPooling: the mean over the text alone
    encoder        InstructSentenceTransformer: the SentenceTransformer made of them
    portable       saved so that plain sentence-transformers loads the same vectors
    bidirectional  bidirectional_encoder: from a decoder to the embedder
    nv_retriever   load_nv_retriever: the published weights
"""
