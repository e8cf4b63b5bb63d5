"""A run's report by the question that each file answers: its table, its figures and its words."""
