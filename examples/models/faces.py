"""The second network of facenet-pytorch's trained MTCNN: is this a face, and where exactly is its box?"""

import numpy
from facenet_pytorch.models.mtcnn import RNet
from skimage.data import lfw_subset


def make_model():
    return RNet()


def load_data():
    images = 255 * lfw_subset()[:, :24, :24]  # 100 faces, then 100 other pieces of photographs
    images += numpy.random.RandomState(0).normal(scale=13, size=images.shape)  # without noise all are right
    images = ((images - 127.5) / 128).astype("float32")
    return numpy.repeat(images[:, None], 3, axis=1), numpy.repeat([1, 0], 100)


def postprocess(outputs):
    return {"scores": outputs["output_1"]}  # output_0 has the boxes
