"""Image classification: scikit-learn's digits, a small convolutional base, transforms, trivial contenders."""
