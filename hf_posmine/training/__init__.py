"""From raw datasets to a trained retriever: instructions, converters, blends, losses and stages."""
