package reclaim

// marks are a bit for each record, by number. Numbers are never used again, so
// those in use lie ever farther apart: only stretches with a mark take memory,
// 4 KiB for 32,768 numbers.
type marks struct{ pages map[int64]*[pageWords]uint64 }

const pageWords = 512

func (m *marks) set(n int64) {
	page, word, bit := place(n)
	p := m.pages[page]
	if p == nil {
		if m.pages == nil {
			m.pages = make(map[int64]*[pageWords]uint64)
		}
		p = new([pageWords]uint64)
		m.pages[page] = p
	}
	p[word] |= bit
}

func (m *marks) has(n int64) bool {
	page, word, bit := place(n)
	p := m.pages[page]
	return p != nil && p[word]&bit != 0
}

func place(n int64) (page, word int64, bit uint64) {
	return n / (pageWords * 64), n / 64 % pageWords, 1 << (uint64(n) % 64)
}
