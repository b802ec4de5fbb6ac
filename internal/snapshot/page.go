package snapshot

// selectPage gives the entries of a long list that are to be kept, at most limit
// of them if there is one. read gives what comes after a place, describePage
// entries but at the end; at is the place of an entry. next is the place that
// the following page goes on after, nil on the last.
func selectPage[T any](after Cursor, limit *int64, at func(*T) Cursor, read func(Cursor) ([]T, error), keep func(*T) bool) (page []T, next *Cursor, err error) {
	for {
		list, err := read(after)
		if err != nil {
			return nil, nil, err
		}
		for i := range list {
			if !keep(&list[i]) {
				continue
			}
			if limit != nil && int64(len(page)) == *limit {
				last := at(&page[len(page)-1])
				return page, &last, nil
			}
			page = append(page, list[i])
		}
		if len(list) < describePage {
			return page, nil, nil
		}
		after = at(&list[len(list)-1])
	}
}

// nextList makes the token of the page after the place; there is none after
// the last one.
func (s *Service) nextList(after *Cursor) string {
	if after == nil {
		return ""
	}
	return s.listToken(*after)
}
