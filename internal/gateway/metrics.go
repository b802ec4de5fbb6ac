package gateway

import (
	"net/http"
	"strconv"
	"sync"
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

	series sync.Map // of *series by outcome
}

// An outcome is what requests are told apart by.
type outcome struct {
	operation string
	status    int
}

// series are what requests of one outcome are counted in: to find them by their
// labels takes longer than to count.
type series struct {
	requests, received, sent prometheus.Counter
	seconds                  prometheus.Observer
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

// of gives what requests of the outcome are counted in.
func (m *metrics) of(o outcome) *series {
	if s, found := m.series.Load(o); found {
		return s.(*series)
	}
	status := strconv.Itoa(o.status)
	s, _ := m.series.LoadOrStore(o, &series{
		requests: m.requests.WithLabelValues(o.operation, status),
		seconds:  m.seconds.WithLabelValues(o.operation, status),
		received: m.received.WithLabelValues(o.operation),
		sent:     m.sent.WithLabelValues(o.operation),
	})
	return s.(*series)
}

// observe counts a finished exchange.
func (m *metrics) observe(x *exchange, took time.Duration) {
	m.inFlight.Dec()
	s := m.of(outcome{x.op, x.w.status})
	s.requests.Inc()
	s.seconds.Observe(took.Seconds())
	s.received.Add(float64(x.body.n))
	s.sent.Add(float64(x.w.n))
	if overQuota(x.err) {
		m.throttled.WithLabelValues(x.op).Inc()
	}
}

// scrapeHandler shows all that is registered in reg.
func scrapeHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}
