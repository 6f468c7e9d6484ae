"""The same per-frame work as the daemon's, with OpenCV and ONNX Runtime: what it is compared with.

usage: service.py MODELS FRAMES WIDTH HEIGHT COUNT

FRAMES is a file of COUNT raw RGB frames, which are gone through ROUNDS times. Prints one JSON object: CPU seconds for each
frame and the greatest resident memory in MiB. Locating, cleaning of the mask, quality figures, cut-out and inference are those
of crates/vision, written with what OpenCV offers.
"""

import json
import resource
import sys
import time

import cv2
import numpy as np
import onnxruntime
import yaml

ROUNDS = 5


def session(folder, precision):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    with open(f"{folder}/manifest.yaml") as file:
        manifest = yaml.safe_load(file)
    path = next(model["path"] for model in manifest["models"] if model["precision"] == precision)
    return onnxruntime.InferenceSession(f"{folder}/{path}", options, ["CPUExecutionProvider"]), manifest["input"]


class Pipeline:
    def __init__(self, models):
        self.locator, self.look = session(f"{models}/locator", "fp32")
        self.classifier, self.input = session(f"{models}/pallor", "int8")

    @staticmethod
    def tensor(picture, spec):
        scaled = (picture.astype(np.float32) / 255 - np.float32(spec["mean"])) / np.float32(spec["std"])
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))[None]

    def locate(self, frame):
        small = cv2.resize(frame, (self.look["width"], self.look["height"]), interpolation=cv2.INTER_AREA)
        logits = self.locator.run(None, {self.look["name"]: self.tensor(small, self.look)})[0]
        logits = logits.reshape(self.look["height"] // 2, self.look["width"] // 2)
        coarse = cv2.morphologyEx((logits > 0).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(coarse, connectivity=4)
        if count < 2:
            return None
        best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        part = (labels == best).astype(np.uint8)
        contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(part, contours, -1, 1, cv2.FILLED)
        logits = np.where(part > 0, np.maximum(logits, 0.5), np.minimum(logits, 0)).astype(np.float32)
        mask = (cv2.resize(logits, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR) > 0).astype(np.uint8)
        box = cv2.boundingRect(mask)
        x, y, width, height = box
        return box, mask[y : y + height, x : x + width]

    @staticmethod
    def quality(tissue, mask):
        inside = mask > 0
        pixels = tissue[inside]
        luma = cv2.cvtColor(tissue, cv2.COLOR_RGB2GRAY)
        laplacian = cv2.Laplacian(luma, cv2.CV_32F)
        core = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0
        least, greatest = pixels.min(axis=1), pixels.max(axis=1)
        mean = float(luma[inside].mean())
        return {
            "tissue_px": int(inside.sum()),
            "exposure": mean / 255,
            "clipped": float((greatest >= 254).mean()),
            "glare": float(((least >= 200) & (greatest - least <= 40)).mean()),
            "sharpness": float(np.sqrt((laplacian[core] ** 2).mean())) / max(mean, 1),
            "colour": pixels.mean(axis=0).tolist(),
        }

    def without_rim(self, cut):
        """The rim of the tissue becomes black, as far as the bundle asks for it and a quarter of the tissue stays."""
        tissue = (cut.max(axis=2) > 0).astype(np.uint8)
        least = cv2.countNonZero(tissue) / 4
        for _ in range(self.input.get("rim", 0)):
            less = cv2.erode(tissue, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
            if cv2.countNonZero(less) < least:
                break
            tissue = less
        return cut * tissue[..., None]

    def smoothed(self, cut):
        """Tissue blurred with tissue, as far as the bundle asks for it."""
        sigma = self.input.get("smooth", 0)
        if sigma == 0:
            return cut
        share = (cut.max(axis=2) > 0).astype(np.float32)
        size = 2 * int(np.ceil(3 * sigma)) + 1
        blur = lambda values: cv2.GaussianBlur(values, (size, size), sigma, borderType=cv2.BORDER_CONSTANT)
        sums = blur(cut.astype(np.float32)) / np.maximum(blur(share), 1e-3)[..., None]
        return np.rint(sums * share[..., None]).astype(np.uint8)

    def analyse(self, frame):
        found = self.locate(frame)
        if found is None:
            return None
        (x, y, width, height), mask = found
        tissue = frame[y : y + height, x : x + width]
        quality = self.quality(tissue, mask)
        cut = cv2.resize(tissue * mask[..., None], (self.input["width"], self.input["height"]), interpolation=cv2.INTER_AREA)
        cut = self.smoothed(self.without_rim(cut))
        value = self.classifier.run(None, {self.input["name"]: self.tensor(cut, self.input)})[0]
        return float(value.reshape(-1)[0]), quality


def main():
    models, path, width, height, count = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    cv2.setNumThreads(1)
    pipeline = Pipeline(models)
    # One frame at a time, as from a camera.
    with open(path, "rb") as file:
        size = width * height * 3

        def frame():
            return np.frombuffer(file.read(size), np.uint8).reshape(height, width, 3)

        pipeline.analyse(frame())
        found, spent = 0, 0.0
        for _ in range(ROUNDS):
            file.seek(0)
            for _ in range(count):
                picture = frame()
                start = time.process_time()
                found += pipeline.analyse(picture) is not None
                spent += time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_ms": spent / (ROUNDS * count) * 1e3, "memory_mib": memory, "judged": found / (ROUNDS * count)}))


main()
