"""Policy files: read strictly, checked all at once, turned into a Policy."""
