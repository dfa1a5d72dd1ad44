"""What people and programs read: JSON documents, tables, explanations. Pure: values in, text out."""
