from parcelpost.size import Size, fits, smallest_box

BOXES = {"S": Size(25, 18, 10), "M": Size(38, 30, 14), "L": Size(45, 35, 20)}


def test_sides_are_sorted_whatever_way_the_parcel_lies():
    assert Size(10, 30, 20).sides() == Size(30, 20, 10).sides() == [30, 20, 10]


def test_the_girth_is_the_longest_side_and_once_around_the_others():
    assert Size(60, 30, 20).girth() == 160


def test_a_large_light_parcel_counts_by_its_volume():
    assert Size(50, 40, 30).volumetric_grams() == 12_000


def test_a_parcel_is_bulky_by_one_long_side_or_by_its_girth():
    assert Size(121, 5, 5).is_bulky()
    assert Size(120, 60, 60).is_bulky()
    assert not Size(120, 60, 30).is_bulky()


def test_a_parcel_may_be_turned_to_fit():
    assert fits(Size(10, 18, 25), BOXES["S"])
    assert not fits(Size(26, 10, 10), BOXES["S"])


def test_the_smallest_box_that_fits_is_chosen():
    assert smallest_box(Size(26, 10, 10), BOXES) == "M"
    assert smallest_box(Size(99, 10, 10), BOXES) == ""
