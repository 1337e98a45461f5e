"""Non-local blocks: every place of a feature map sees all others (Wang et al., 2018)."""

from torch import Tensor, nn

INNER = 1  # channels of θ, φ and g: the released code of AGW, and of the methods that build on it


class NonLocal(nn.Module):
    """A residual block of dot-product attention between the N places of a map, as in AGW.

        y_i = 1/N Σ_j (θ(x_i) · φ(x_j)) g(x_j),   x_i ← x_i + norm(W y_i)

    θ, φ, g and W are linear. The scale of the norm starts at 0, so that the block starts as the
    identity and leaves trained weights of the network around it as good as they are.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, INNER, 1)
        self.phi = nn.Conv2d(channels, INNER, 1)
        self.g = nn.Conv2d(channels, INNER, 1)
        self.w = nn.Conv2d(INNER, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (B, C, H, W) with the attention added."""
        theta = self.theta(maps).flatten(2).transpose(1, 2)  # (B, N, INNER)
        phi = self.phi(maps).flatten(2)  # (B, INNER, N)
        g = self.g(maps).flatten(2).transpose(1, 2)  # (B, N, INNER)
        # φ and g first: without a softmax between them the (N, N) weights are not needed
        attended = theta @ (phi @ g / g.shape[1])  # (B, N, INNER)
        places = attended.transpose(1, 2).unflatten(2, maps.shape[2:])  # (B, INNER, H, W)
        added: Tensor = self.norm(self.w(places))
        return maps + added
