from parcelpost.manifest import faults, read, write

GOOD = {"reference": "1", "country": "DE", "postcode": "10115", "weight": "1.2 kg"}


def test_what_is_written_is_read_back(tmp_path):
    assert write(tmp_path / "list.csv", [GOOD, GOOD]) == 2
    assert read(tmp_path / "list.csv") == [GOOD, GOOD]


def test_a_good_manifest_has_no_faults():
    assert faults([GOOD]) == []


def test_faults_name_their_line():
    rows = [GOOD, GOOD | {"postcode": "1"}, GOOD | {"weight": "40 kg"}]
    first, second = faults(rows)
    assert first == "line 3: no postcode of DE"
    assert second.startswith("line 4:")
