"""`trainyard doctor`: looks at what a training needs, and at who could reach it. Changes nothing."""
