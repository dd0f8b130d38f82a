"""Pictures as people have them: files of any kind to arrays, their alpha and metadata, and back."""
