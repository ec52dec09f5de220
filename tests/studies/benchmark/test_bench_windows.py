from mucald_studies.benchmark.windows import DIRECT, OURS, Found, WindowPlan, measure, report


def test_both_predict_the_same_mask_and_are_timed():
    found = measure(WindowPlan((24, 20, 16), (16, 16, 8), (4, 8, 16), repeats=1, mirrored=True))
    assert list(found) == ["as it is", "mirrored"]
    for one in found.values():
        assert one.same
        assert one.seconds.keys() == {OURS, DIRECT}
        assert min(one.seconds.values()) > 0


def test_a_slow_prediction_or_another_mask_fails():
    checks = report({"as it is": Found({OURS: 1.2, DIRECT: 1.0}, same=False)}).checks
    assert [check.passed for check in checks] == [False, False]
    checks = report({"as it is": Found({OURS: 1.05, DIRECT: 1.0}, same=True)}).checks
    assert [check.passed for check in checks] == [True, True]
