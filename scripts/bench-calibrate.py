"""ONNX Runtime's own quantization of one network: what bench-calibrate.sh compares with.

bench-calibrate.py FP32.onnx PICTURES.f32 OUT.onnx: the pictures lie one after the other as the network is given them. Prints
the seconds that quantizing took, without the start of Python.
"""
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.preprocess import quant_pre_process

model, pictures, out = sys.argv[1:]
value = onnx.load(model).graph.input[0]
shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
pictures = np.fromfile(pictures, np.float32).reshape(-1, *shape)


class Reader(CalibrationDataReader):
    left = iter(pictures)

    def get_next(self):
        picture = next(self.left, None)
        return None if picture is None else {value.name: picture}


start = time.perf_counter()
with tempfile.TemporaryDirectory() as folder:
    prepared = str(Path(folder) / "prepared.onnx")
    quant_pre_process(model, prepared)
    # What its documentation advises for x86 and convolutions: bytes, weights with a scale for each output.
    quantize_static(
        prepared, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )
print(time.perf_counter() - start)
