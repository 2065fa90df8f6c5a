"""Tests of the scripts in this folder that need neither a GPU nor full-size models. By hand:

    python -m unittest discover bench/peers

What computes with the samples is in bench/report, and its tests run with the others."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

import gpu
import gpu_rival
import limits
import record


class Records(unittest.TestCase):
    def test_a_failure_is_told_in_a_line(self):
        for program, want in [
            ("import sys; sys.exit('no room')", "exit code 1: no room"),
            ("raise ValueError('first\\n * second')", "exit code 1: ValueError: first"),
            ("print('no braces')", "no JSON"),
            ("import time; time.sleep(60)", "not done after 2 s"),
        ]:
            with self.assertRaises(record.Failed) as e:
                record.run_json([sys.executable, "-c", program], 2)
            self.assertIn(want, str(e.exception))
        with self.assertRaises(record.Failed):
            record.run_json(["/no/such/program"], 2)

    def test_the_first_step_is_not_counted(self):
        with tempfile.TemporaryDirectory() as tmp:
            rec = record.Record(f"{tmp}/run.json", 7, {})
            rec.summary("c", "e", 2, {"seconds": 9, "peak_rss_bytes": 5, "times": {"load": 1, "text": 2, "steps": [100, 3, 4], "decode": 5}})
            rec.fail("c", "f", "why")
            saved = json.loads(pathlib.Path(f"{tmp}/run.json").read_text())
        self.assertEqual([s["value"] for s in saved["samples"] if s["quantity"] == "UNet step"], [3, 4])
        self.assertEqual({s["round"] for s in saved["samples"]}, {2})
        self.assertEqual(saved["failures"], [{"case": "c", "engine": "f", "error": "why"}])


class Copies(unittest.TestCase):
    def test_overlapping_copies_count_their_time_once(self):
        def copy(ts, dur, size, name="Memcpy HtoD (Pinned -> Device)"):
            return {"cat": "gpu_memcpy", "name": name, "ts": ts, "dur": dur, "args": {"bytes": size}}

        moved, busy = gpu_rival.copied({"traceEvents": [
            copy(100, 50, 1000), copy(120, 60, 500), copy(130, 10, 7), copy(300, 1, 1),
            copy(0, 1000, 9999, "Memcpy DtoH (Device -> Pinned)"), {"cat": "kernel", "name": "x", "ts": 0, "dur": 9},
        ]})
        self.assertEqual(moved, 1508)
        self.assertAlmostEqual(busy, 81e-6)


class Shapes(unittest.TestCase):
    def test_arithmetic(self):
        self.assertEqual(limits.Linear(2, 3, 5).flops(), 60)
        # 8 x 8 becomes 4 x 4: each of 16 places of 7 channels takes 9 x 3 multiplications and as many additions.
        self.assertEqual(limits.Conv(1, 8, 8, 3, 7, 3, 2, 1).flops(), 2 * 16 * 7 * 27)

    def test_a_family_has_the_work_it_is_known_to_have(self):
        with tempfile.TemporaryDirectory() as tmp:
            subprocess.run(["go", "run", "./bench/mkmodel", "-shapes", "-o", f"{tmp}/sd15"], check=True, cwd=HERE.parent.parent)
            count = limits.unet_shapes(pathlib.Path(tmp) / "sd15")
            # 1.61 TFLOP in a step, of which the products within attention, not counted here, are about a sixth.
            self.assertAlmostEqual(sum(s.flops() * n for s, n in count.items()) / 1e12, 1.35, delta=0.15)
            shapes = limits.largest(pathlib.Path(tmp), ["sd15"], "", 12)
        work = [s.flops() * n for s, n, _ in shapes]
        self.assertEqual(len(shapes), 12)
        self.assertEqual(work, sorted(work, reverse=True))


class Lists(unittest.TestCase):
    def test_the_driver_knows_every_variant(self):
        self.assertEqual(gpu.VARIANTS, list(gpu_rival.VARIANTS))


if __name__ == "__main__":
    unittest.main()
