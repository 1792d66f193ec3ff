-- What wrk sends, and what it says at the end: one line of JSON for bench.py. The body and the key come
-- from the environment, so that neither is in a file or among the arguments.

wrk.method = "POST"
wrk.body = os.getenv("BENCH_BODY")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_KEY")

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "bytes": %d, "microseconds": %d, "failed": %d, "p50": %.1f, "p99": %.1f, "max": %.1f}\n',
    summary.requests,
    summary.bytes,
    summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50),
    latency:percentile(99),
    latency.max
  ))
end
