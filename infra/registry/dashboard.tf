# The dashboard of the metrics that the function writes to its log.

locals {
  # A metric has a series for each combination of values of its dimensions. A search finds all of them.
  searched = {
    "Decisions by outcome and code" = {
      metric     = "stile_decisions_total"
      dimensions = ["decision", "code"]
      statistic  = "Sum"
    }
    "Calls of AWS by service and result" = {
      metric     = "stile_service_calls_total"
      dimensions = ["service", "result"]
      statistic  = "Sum"
    }
    "Duration of calls in seconds, 99th percentile" = {
      metric     = "stile_service_call_duration_seconds"
      dimensions = ["service"]
      statistic  = "p99"
    }
    "Events that wait, by destination" = {
      metric     = "stile_events_waiting"
      dimensions = ["destination"]
      statistic  = "Maximum"
    }
  }

  single = {
    "Answers from caches, and those that no cache had" = {
      metrics   = ["stile_cache_hits_total", "stile_cache_misses_total"]
      statistic = "Sum"
    }
    # Each instance has read the key at another time. The youngest is the one that seals new tokens.
    "Age of the key in seconds" = {
      metrics   = ["stile_key_age_seconds"]
      statistic = "Minimum"
    }
  }

  graphs = merge(
    { for title, graph in local.searched : title => jsonencode([[{
      expression = "SEARCH('{${join(",", concat(["\"${local.metrics}\""], graph.dimensions))}} MetricName=\"${graph.metric}\"', '${graph.statistic}', 300)"
      id         = "found"
    }]]) },
    { for title, graph in local.single : title => jsonencode([
      for metric in graph.metrics : [local.metrics, metric, { stat = graph.statistic }]
    ]) },
  )
}

resource "aws_cloudwatch_dashboard" "registry" {
  count = var.metrics ? 1 : 0

  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [for at, title in sort(keys(local.graphs)) : {
      type   = "metric"
      x      = 12 * (at % 2)
      y      = 6 * floor(at / 2)
      width  = 12
      height = 6
      properties = {
        title   = title
        region  = local.region
        view    = "timeSeries"
        period  = 300
        metrics = jsondecode(local.graphs[title])
      }
    }]
  })
}
