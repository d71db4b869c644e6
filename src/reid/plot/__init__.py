"""Pictures: maps of embeddings, distances and errors, training curves, what a network looks at.

Each kind is a function from data to a page or picture as text. Only `attention` needs PyTorch, and only when called.
"""
