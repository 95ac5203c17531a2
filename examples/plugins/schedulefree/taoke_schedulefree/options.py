"""What a recipe may say. Imports no torch."""

from pydantic import Field

from core.components import Options


class AdamW(Options):
    beta1: float = Field(0.9, gt=0, lt=1, description="how near to the average the gradient is taken")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the squared gradients' average")
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(0, ge=0, description="steps in which the rate rises")
