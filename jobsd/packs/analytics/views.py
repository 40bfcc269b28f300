"""What can be looked at: signals, and the daily aggregates that they were judged by."""

from jobsd.sdk import Column, Filter, Fit, View

SIGNALS = View(
    name="signals",
    title="Signals",
    sql="""
        SELECT id, rule, course_id, period, severity, evidence, raised_at, changed_at, archived_at IS NULL AS active,
               CASE WHEN archived_at IS NOT NULL THEN 'archived'
                    WHEN cleared_at IS NOT NULL THEN 'cleared' ELSE 'open' END AS state
          FROM analytics.signal
    """,
    columns=(
        Column("id", "integer"),
        Column("rule"),
        Column("course_id", title="course"),
        Column("period"),
        Column("severity"),
        Column("state"),
        Column("evidence", "json"),
        Column("raised_at", "instant", "raised"),
        Column("changed_at", "instant", "changed"),
        Column("active", "boolean"),
    ),
    key=("id",),
    filters=(
        Filter("rule"),
        Filter("course", "course_id"),
        Filter("severity", about="warning or critical"),
        Filter("state", about="open, cleared or archived"),
        Filter("since", "raised_at", "at_least"),
    ),
    actions=(Fit("archive_signal", {"signal": "id"}, when="active"),),
)

DAILY_AGGREGATES = View(
    name="daily_aggregates",
    title="Daily aggregates",
    sql="""
        SELECT day, course_id, kind, events, scored, score_sum / nullif(scored, 0) AS mean_score, passes, learners
          FROM analytics.daily_aggregate
         WHERE archived_at IS NULL
    """,
    columns=(
        Column("day", "date"),
        Column("course_id", title="course"),
        Column("kind"),
        Column("events", "integer"),
        Column("scored", "integer"),
        Column("mean_score", "number"),
        Column("passes", "integer"),
        Column("learners", "integer"),
    ),
    key=("day", "course_id", "kind"),
    filters=(
        Filter("course", "course_id"),
        Filter("kind"),
        Filter("since", "day", "at_least", "the first day"),
        Filter("until", "day", "at_most", "the last day"),
    ),
)
