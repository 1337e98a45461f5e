"""Cross-modal training: paper Algorithm 1, lines 2 to 15."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.parts.adversary.discriminator import ModalityDiscriminator
from stages.parts.adversary.reversal import coefficient, reverse_gradient
from stages.parts.agreement import assignment_accuracy, label_distribution
from stages.parts.assignment.bank import LabelBank
from stages.parts.assignment.transport import solve
from stages.parts.images.pairing import CrossModalBatches, cross_modal_batches, unpaired_batches
from stages.parts.network.embed import gather
from stages.parts.network.head import IdentityNetwork
from stages.parts.run import records, seeds
from stages.parts.run.settings import Den, Otla, Pal, Train
from stages.train.data import TrainingSet, clean_batches, pictures
from stages.train.objective import loss_terms, total, weights
from stages.train.schedule import learning_rate, steps_in_epoch


@dataclass(frozen=True)
class Method:
    """The sections of `params.yaml` that say what is done."""

    train: Train
    den: Den
    otla: Otla
    pal: Pal
    seed: int


@dataclass
class State:
    """All that training changes; a checkpoint holds all of it."""

    network: IdentityNetwork
    discriminator: ModalityDiscriminator
    optimiser: torch.optim.Optimizer
    bank: LabelBank
    epoch: int = 0
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def save(self, checkpoint: records.Checkpoint) -> None:
        """Write everything, whole or not at all."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"discriminator.{name}": value for name, value in self.discriminator.state_dict().items()}
        tensors |= records.optimiser_tensors(self.optimiser) | self.bank.tensors()
        checkpoint.save(tensors, {"epoch": self.epoch, "step": self.step, "history": self.history})

    def restore(self, checkpoint: records.Checkpoint) -> bool:
        """Take over a stored state. False where there is none."""
        stored = checkpoint.load()
        if stored is None:
            return False
        tensors, facts = stored
        for prefix, module in (("network.", self.network), ("discriminator.", self.discriminator)):
            own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            module.load_state_dict(own)
        records.restore_optimiser(self.optimiser, tensors)
        self.bank.restore(tensors)
        self.epoch, self.step, self.history = facts["epoch"], facts["step"], facts["history"]
        return True


def new_state(network: IdentityNetwork, images: int, method: Method, device: torch.device) -> State:
    """A state before the first epoch: optimiser in two groups (backbone, everything new), an empty bank."""
    sizes = network.backbone.sizes
    features = sum(sizes) if method.den.levels == "all" else sizes[-1]
    generator = seeds.generator(method.seed, "train", "discriminator")
    discriminator = ModalityDiscriminator(features, method.den.dropout, generator)
    network.to(device).to(memory_format=torch.channels_last)
    discriminator.to(device)
    backbone = list(network.backbone.parameters())
    new = [p for name, p in network.named_parameters() if not name.startswith("backbone.") and p.requires_grad]
    new += [p for p in discriminator.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(
        [{"params": backbone, "share": method.train.backbone_rate}, {"params": new, "share": 1.0}],
        lr=method.train.learning_rate,
        weight_decay=method.train.weight_decay,
    )
    return State(network, discriminator, optimiser, LabelBank(images))


def run(
    state: State,
    data: TrainingSet,
    method: Method,
    checkpoint: records.Checkpoint,
    watch: Callable[[dict[str, Any]], None],
) -> None:
    """Train `state` to the last epoch; after each one write the checkpoint and give `watch` the epoch's figures.

    Raises FloatingPointError at the first loss or prediction that is not finite: it names the step and the terms, and
    where the state of the last finished epoch is.
    """
    for epoch in range(state.epoch, method.train.epochs):
        started = time.perf_counter()
        batches, paired = draw_batches(state.bank, data, method, epoch)
        try:
            figures = train_epoch(state, data, method, batches, paired)
            trained = time.perf_counter()
            figures |= assign(state, data, method)
        except FloatingPointError as error:
            where = f"the state after epoch {epoch} is in {checkpoint.path}" if epoch else "no epoch was finished"
            raise FloatingPointError(f"epoch {epoch + 1}, {error}; {where}") from None
        seconds = {"train_seconds": trained - started, "assign_seconds": time.perf_counter() - trained}
        state.epoch += 1
        state.history.append(figures)
        state.save(checkpoint)
        watch(figures | seconds | {"images": batches.visible.size * 2})


def draw_batches(bank: LabelBank, data: TrainingSet, method: Method, epoch: int) -> tuple[CrossModalBatches, bool]:
    """The batches of an epoch, and whether their infrared images have labels (Algorithm 1, line 5).

    Where the first epoch has labels already, they are random, as in the released code; before
    `otla.infrared_from_epoch`, and without any assignment, infrared images come from one pool and have none.
    """
    settings = method.train
    visible, infrared = len(data.visible_rows), len(data.infrared_rows)
    steps = settings.steps or steps_in_epoch(
        visible, infrared, settings.epoch_multiplier, settings.persons, settings.images
    )
    generator = seeds.numpy_generator(method.seed, "train", "batches", epoch)
    shape = (settings.persons, settings.images, steps, generator)
    labels: np.ndarray | None = data.infrared_truth
    if labels is None and method.otla.assignment != "none" and epoch >= method.otla.infrared_from_epoch:
        labels = bank.labels.numpy()
        if epoch == 0:
            labels = generator.integers(data.classes, size=infrared)
    if labels is None:
        return unpaired_batches(data.visible_labels, infrared, *shape), False
    return cross_modal_batches(data.visible_labels, labels, *shape), True


def train_epoch(
    state: State,
    data: TrainingSet,
    method: Method,
    batches: CrossModalBatches,
    paired: bool,
) -> dict[str, Any]:
    """One pass over `batches` (Algorithm 1, lines 4 to 7); returns the mean of each loss term and the rates used.

    Raises FloatingPointError at the first loss that is not finite: it names the step and the terms.
    """
    settings, device = method.train, state.network.classifier.weight.device
    epoch = state.epoch
    rate = learning_rate(epoch, settings.learning_rate, settings.warmup_epochs, settings.milestones, settings.decay)
    for group in state.optimiser.param_groups:
        group["lr"] = rate * group["share"]
    weight = weights(settings, method.den, method.pal)
    generator = seeds.generator(method.seed, "train", "augment", epoch)
    sums: dict[str, Tensor] = {}
    state.network.train()
    state.discriminator.train()
    reversal = 0.0
    each = zip(batches.visible, batches.infrared, batches.labels, strict=True)
    what = f"train: epoch {epoch + 1}/{settings.epochs}"
    bar = records.progress(each, what, "step", len(batches.labels))
    for step, (visible, infrared, label) in enumerate(bar, 1):
        images = torch.cat(
            [
                pictures(data.store, data.visible_rows[visible], device, settings, generator, grey=True),
                pictures(data.store, data.infrared_rows[infrared], device, settings, generator, grey=False),
            ]
        ).contiguous(memory_format=torch.channels_last)
        labels = torch.from_numpy(label).to(device)
        outputs = state.network.outputs(images)
        state.step += method.den.step
        modality = None
        if method.den.enabled:
            reversal = coefficient(state.step, method.den.max_steps, method.den.tau)
            features = outputs.levels
            if method.den.levels == "last":
                features = features[:, -state.network.backbone.sizes[-1] :]
            modality = state.discriminator(reverse_gradient(features, reversal), generator)
        terms = loss_terms(outputs, modality, labels, labels if paired else None, settings, method.pal)
        loss = total(terms, weight)
        _refuse_non_finite(loss, terms, step)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        state.optimiser.step()
        for name, term in {"loss": loss, **terms}.items():
            sums[name] = sums.get(name, 0) + term.detach()
    names = ("loss", *weight)
    means = {name: round(float(sums[name]) / len(batches.labels), 6) if name in sums else None for name in names}
    return {"epoch": epoch + 1, **means, "learning_rate": round(rate, 10), "reversal": round(reversal, 6)}


def _refuse_non_finite(loss: Tensor, terms: dict[str, Tensor], step: int) -> None:
    if torch.isfinite(loss):
        return
    bad = [f"{name} = {term.item():g}" for name, term in terms.items() if not torch.isfinite(term)]
    raise FloatingPointError(f"step {step}: the loss is not finite ({', '.join(bad) or 'but every term is'})")


def assign(state: State, data: TrainingSet, method: Method) -> dict[str, Any]:
    """Predict all infrared training images and write their labels to the bank (Algorithm 1, lines 8 to 14).

    Evaluation mode, clean images. Returns the figures of the labels; true identities appear in these only.
    Raises FloatingPointError for predictions that are not finite.
    """
    device = state.network.classifier.weight.device
    batches = clean_batches(data.store, data.infrared_rows, device)
    log_predictions = gather(state.network, state.network.predict, batches).log_softmax(1)  # (R, C)
    if log_predictions.isnan().any():
        raise FloatingPointError("after the last step: the predictions are not finite")
    confidence, argmax = log_predictions.exp().max(1)
    labels, iterations = argmax, None
    if method.otla.assignment == "transport":
        columns = None
        if method.otla.label_prior == "visible":
            counts = np.bincount(data.visible_labels, minlength=data.classes)
            columns = torch.from_numpy(counts / counts.sum())
        transport = solve(
            log_predictions,
            method.otla.delta,
            columns=columns,
            solver=method.otla.solver,
            tolerance=method.otla.tolerance,
            max_iterations=method.otla.max_iterations,
        )
        if not transport.converged:
            steps, goal = transport.iterations, method.otla.tolerance
            records.say(
                f"train: transport stopped after {steps} iterations at {transport.error:.1e}, wanted {goal:.1e}"
            )
        labels, confidence, iterations = transport.labels, transport.confidence, transport.iterations
    state.bank.advance()
    state.bank.write(np.arange(len(labels)), labels, confidence)
    reference = (data.infrared_persons, data.visible_labels, data.visible_persons)
    spread = label_distribution(labels.cpu().numpy(), data.classes)
    return {
        "accuracy_transport": _accuracy(labels, *reference) if method.otla.assignment == "transport" else None,
        "accuracy_argmax": _accuracy(argmax, *reference),
        "label_entropy": round(spread["entropy"], 6),
        "label_max_share": round(spread["max_share"], 6),
        "empty_labels": int(spread["empty"]),
        "transport_iterations": iterations,
    }


def _accuracy(labels: Tensor, persons: np.ndarray, visible_labels: np.ndarray, visible_persons: np.ndarray) -> float:
    return round(assignment_accuracy(labels.cpu().numpy(), persons, visible_labels, visible_persons), 6)
