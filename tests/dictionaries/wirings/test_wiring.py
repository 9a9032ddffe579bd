from isogloss.dictionaries.wirings.wiring import WiredColumns, site_columns


def test_the_columns_of_sites_lie_side_by_side():
    assert site_columns([4, 2, 3]) == (range(4), range(4, 6), range(6, 9))
    assert site_columns([]) == ()


def test_a_dictionary_reads_what_it_writes_where_the_columns_are_equal():
    assert WiredColumns(reads=range(4), writes=range(4)).reads_what_it_writes
    assert not WiredColumns(reads=range(4), writes=range(4, 8)).reads_what_it_writes
