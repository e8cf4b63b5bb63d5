"""What an audit can look at without a judge of conf/judge."""

RULES = {
    "labels": "Nobody judges: the labels themselves are looked at.",
    "longer": "The summary with more characters wins.",
    "title_overlap": "The summary with the higher ROUGE-1 F1 to the post's title wins.",
    "column": "The verdicts are in the file, in the column columns.judge.",
}
