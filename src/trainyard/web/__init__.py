"""Pages that ask an exported model in the browser itself."""
