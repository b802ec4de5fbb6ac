package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what a gateway counts. Labels have few values: operations that
// are known by name, and status codes.
type metrics struct {
	// requests counts finished requests.
	requests *prometheus.CounterVec // operation, status
	// seconds is the time from the end of a request's header to the end of its
	// handler, in seconds.
	seconds *prometheus.HistogramVec // operation, status
	// received and sent count the bytes of bodies.
	received, sent *prometheus.CounterVec // operation
	// throttled counts requests that a quota refused.
	throttled *prometheus.CounterVec // operation
	// inFlight is how many requests are being answered.
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shale_http_requests_total",
			Help: "Requests answered, by operation and HTTP status.",
		}, []string{"operation", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "shale_http_request_duration_seconds",
			Help:    "Time to answer a request, its body included, by operation and HTTP status.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), // 0.5 ms to 8 s
		}, []string{"operation", "status"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shale_http_received_bytes_total",
			Help: "Bytes of request bodies read, by operation.",
		}, []string{"operation"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shale_http_sent_bytes_total",
			Help: "Bytes of response bodies written, by operation.",
		}, []string{"operation"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shale_throttled_requests_total",
			Help: "Requests refused because of a quota, by operation.",
		}, []string{"operation"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "shale_http_requests_in_flight",
			Help: "Requests being answered.",
		}),
	}
	reg.MustRegister(m.requests, m.seconds, m.received, m.sent, m.throttled, m.inFlight)
	return m
}

// observe counts a finished exchange.
func (m *metrics) observe(x *exchange, took time.Duration) {
	status := strconv.Itoa(x.w.status)
	m.inFlight.Dec()
	m.requests.WithLabelValues(x.op, status).Inc()
	m.seconds.WithLabelValues(x.op, status).Observe(took.Seconds())
	m.received.WithLabelValues(x.op).Add(float64(x.body.n))
	m.sent.WithLabelValues(x.op).Add(float64(x.w.n))
	if overQuota(x.err) {
		m.throttled.WithLabelValues(x.op).Inc()
	}
}

// scrapeHandler shows all that is registered in reg.
func scrapeHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}
