package gateway

// Resting is how many connections have nothing to wait for.
func (s *Server) Resting() int {
	s.crowd.mu.Lock()
	defer s.crowd.mu.Unlock()
	return s.crowd.resting.Len()
}

// Lounging is how many of them wait away from net/http.
func (s *Server) Lounging() int {
	s.lounge.mu.Lock()
	defer s.lounge.mu.Unlock()
	return len(s.lounge.guest)
}
