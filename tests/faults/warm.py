"""What every run imports or reads first, loaded once by the process that children are forked of."""

import jinja2  # noqa: F401
import model2vec  # noqa: F401
import PIL.Image
import torch

import pcdistill.capability.generators.rendered
import pcdistill.cli.execute
import pcdistill.homes
import pcdistill.stages  # noqa: F401

torch.set_num_threads(1)
torch.empty(1, device="meta").normal_()  # loads what random weights of a network need
PIL.Image.init()
