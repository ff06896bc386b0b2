"""What architectures are cited by, and what the names of weights say of their data."""

__all__ = ["paper_of", "training_data_of"]

# By the beginning of the name of an architecture; the longest that fits is taken.
_PAPERS = {
    "alexnet": "Krizhevsky (2014), One weird trick for parallelizing convolutional "
    "neural networks, arXiv:1404.5997",
    "beit": "Bao et al. (2021), BEiT: BERT pre-training of image transformers, "
    "arXiv:2106.08254",
    "convnext": "Liu et al. (2022), A ConvNet for the 2020s, arXiv:2201.03545",
    "convnextv2": "Woo et al. (2023), ConvNeXt V2: Co-designing and scaling ConvNets "
    "with masked autoencoders, arXiv:2301.00808",
    "deit": "Touvron et al. (2021), Training data-efficient image transformers & "
    "distillation through attention, arXiv:2012.12877",
    "densenet": "Huang et al. (2017), Densely connected convolutional networks, "
    "arXiv:1608.06993",
    "efficientnet": "Tan and Le (2019), EfficientNet: Rethinking model scaling for "
    "convolutional neural networks, arXiv:1905.11946",
    "efficientnet_v2": "Tan and Le (2021), EfficientNetV2: Smaller models and faster "
    "training, arXiv:2104.00298",
    "efficientnetv2": "Tan and Le (2021), EfficientNetV2: Smaller models and faster "
    "training, arXiv:2104.00298",
    "eva": "Fang et al. (2023), EVA: Exploring the limits of masked visual "
    "representation learning at scale, arXiv:2211.07636",
    "googlenet": "Szegedy et al. (2015), Going deeper with convolutions, "
    "arXiv:1409.4842",
    "hrnet": "Wang et al. (2020), Deep high-resolution representation learning for "
    "visual recognition, arXiv:1908.07919",
    "inception_v3": "Szegedy et al. (2016), Rethinking the Inception architecture for "
    "computer vision, arXiv:1512.00567",
    "maxvit": "Tu et al. (2022), MaxViT: Multi-axis vision transformer, "
    "arXiv:2204.01697",
    "mixer": "Tolstikhin et al. (2021), MLP-Mixer: An all-MLP architecture for vision, "
    "arXiv:2105.01601",
    "mnasnet": "Tan et al. (2019), MnasNet: Platform-aware neural architecture search "
    "for mobile, arXiv:1807.11626",
    "mobilenet_v2": "Sandler et al. (2018), MobileNetV2: Inverted residuals and linear "
    "bottlenecks, arXiv:1801.04381",
    "mobilenetv2": "Sandler et al. (2018), MobileNetV2: Inverted residuals and linear "
    "bottlenecks, arXiv:1801.04381",
    "mobilenet_v3": "Howard et al. (2019), Searching for MobileNetV3, arXiv:1905.02244",
    "mobilenetv3": "Howard et al. (2019), Searching for MobileNetV3, arXiv:1905.02244",
    "regnet": "Radosavovic et al. (2020), Designing network design spaces, "
    "arXiv:2003.13678",
    "resnet": "He et al. (2016), Deep residual learning for image recognition, "
    "arXiv:1512.03385",
    "resnext": "Xie et al. (2017), Aggregated residual transformations for deep neural "
    "networks, arXiv:1611.05431",
    "shufflenet_v2": "Ma et al. (2018), ShuffleNet V2: Practical guidelines for "
    "efficient CNN architecture design, arXiv:1807.11164",
    "squeezenet": "Iandola et al. (2016), SqueezeNet: AlexNet-level accuracy with 50x "
    "fewer parameters and <0.5MB model size, arXiv:1602.07360",
    "swin": "Liu et al. (2021), Swin Transformer: Hierarchical vision transformer "
    "using shifted windows, arXiv:2103.14030",
    "swin_v2": "Liu et al. (2022), Swin Transformer V2: Scaling up capacity and "
    "resolution, arXiv:2111.09883",
    "swinv2": "Liu et al. (2022), Swin Transformer V2: Scaling up capacity and "
    "resolution, arXiv:2111.09883",
    "vgg": "Simonyan and Zisserman (2015), Very deep convolutional networks for "
    "large-scale image recognition, arXiv:1409.1556",
    "vit": "Dosovitskiy et al. (2021), An image is worth 16x16 words: Transformers for "
    "image recognition at scale, arXiv:2010.11929",
    "wide_resnet": "Zagoruyko and Komodakis (2016), Wide residual networks, "
    "arXiv:1605.07146",
}

# By the parts of the name of weights, in this order: the first fine-tuned on the last.
_DATA = {
    "imagenet-1k": "ImageNet-1k",
    "imagenet1k": "ImageNet-1k",
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "sat493m": "SAT-493M",
    "webli": "WebLI",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "openai": "WIT-400M, of OpenAI's CLIP",
    "yfcc15m": "YFCC-15M",
    "datacompxl": "DataComp-XL",
    "swag": "Instagram images with hashtags (SWAG)",
}


def paper_of(name):
    """Return what the architecture of a backbone is cited by (str or None).

    Parameters
    ----------
    name : str
        Of the backbone, with or without its provider.
    """
    bare = name.rpartition("/")[2].removeprefix("tf_")
    fitting = [start for start in _PAPERS if bare.startswith(start)]
    return _PAPERS[max(fitting, key=len)] if fitting else None


def training_data_of(weights):
    """Return what weights were trained on, as their name says (str or None).

    Parameters
    ----------
    weights : str
        ``"ft_in22k_in1k"``: as timm does, what came last is named last.
    """
    parts = weights.lower().split("_")
    found = [_DATA[part] for part in parts if part in _DATA]
    return ", then ".join(dict.fromkeys(found)) if found else None
