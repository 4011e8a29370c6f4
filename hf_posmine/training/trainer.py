"""The stock trainer, fed with this package's batches."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from datasets import IterableDataset
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.sampler import BatchSamplers, MultiDatasetBatchSamplers, SetEpochMixin
from transformers import TrainerCallback

from hf_posmine.core.errors import InputError
from hf_posmine.encoding.linear_layers import quicker_training
from hf_posmine.models.adapters import has_adapters, restore_adapters
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.training.collator import IN_BATCH, RowCollator, has_negatives
from hf_posmine.training.contrast import MASK_REASONS
from hf_posmine.training.losses import CachedInfoNCELoss, InfoNCELoss, move_ceiling
from hf_posmine.training.neighbour_batches import NeighbourBatches
from hf_posmine.training.samplers import NoDuplicateTexts, SameDatasetPerStep, StepsPerEpoch
from hf_posmine.training.sharded import WholeCopy, ZeroCopy, loading_whole
from hf_posmine.utils.upstream import overrides_private

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from torch.utils.data import BatchSampler, ConcatDataset, DataLoader
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import TrainOutput

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.training.guide import Guide
    from hf_posmine.training.neighbour_batches import NearRows
    from hf_posmine.training.remine import Remine


def unwrapped(model: torch.nn.Module) -> Any:
    """The module that ``torch.compile`` wrapped, or the model itself."""
    return getattr(model, "_orig_mod", model)


class SetEpoch(TrainerCallback):
    """Gives the batch sampler and the collator their epoch before an epoch starts.

    The stock trainer sets it on the outermost sampler only. In a run resumed on several processes, and up to
    transformers 5.17 in any resumed run and on several processes, that is a wrapper of accelerate without
    ``set_epoch``: the run would repeat the batches of the first epoch.

    Args:
        collator: which draws a row's positive anew in each epoch, before the workers of a loader take their copy of it;
            None for a collator of another kind.
    """

    def __init__(self, collator: RowCollator | None) -> None:
        self.collator = collator

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: DataLoader | None = None,
        **_: Any,
    ) -> None:
        """Set it on the collator, and on the sampler below the share of this process."""
        from accelerate.data_loader import BatchSamplerShard

        sampler = train_dataloader.batch_sampler if train_dataloader else None
        if isinstance(sampler, BatchSamplerShard):
            sampler = sampler.batch_sampler
        if isinstance(sampler, SetEpochMixin):
            sampler.set_epoch(int(state.epoch or 0))
        if self.collator is not None:
            self.collator.epoch = int(state.epoch or 0)


ZERO3 = 3
"""The stage of DeepSpeed's ZeRO that spreads the weights."""
OUR_BATCHES = (BatchSamplers.BATCH_SAMPLER, BatchSamplers.NO_DUPLICATES, BatchSamplers.NO_DUPLICATES_HASHED)


@overrides_private("_save", "_load_from_checkpoint", "_load_best_model")
class RecipeTrainer(SentenceTransformerTrainer):
    """SentenceTransformerTrainer for rows ``query, positive, negative_1..n``, one data set per task or one mixed.

    Everything is stock (arguments, evaluation, saving, Hub) except

    - the collator, :class:`~hf_posmine.training.collator.RowCollator`: instructions, in-batch flags, equal texts;
    - the batches, :class:`~hf_posmine.training.samplers.NoDuplicateTexts`: no text twice among rows that take in-batch
      negatives. ``batch_sampler`` may name a class of your own instead;
    - the turns of several data sets, :class:`~hf_posmine.training.samplers.SameDatasetPerStep`:
      ``multi_dataset_batch_sampler`` is "proportional" or "round_robin", or ``dataset_weights`` mixes by weight;
    - the default loss, :class:`~hf_posmine.training.losses.InfoNCELoss`;
    - the log, which has the share of in-batch pairs of this process that was left out, by reason: ``masked_same_text``,
      ``masked_same_query``, ``masked_above_ceiling``; with ``remine`` the share of negatives that a mining changed,
      ``negatives_changed``.

    Args:
        *args: as the stock trainer takes them.
        dataset_weights: data set name -> weight of its steps.
        near_batches: rows that are near by a teacher share a batch, see
            :class:`~hf_posmine.training.neighbour_batches.NeighbourBatches`; given a data set, its near rows.
        guide: whose vectors decide which documents of a batch are false negatives; by default the student's.
        images: what the names of images in the rows open; by default there are none.
        remine: mines the negatives again within the run; an epoch is then the steps between two minings.
        **kwargs: as the stock trainer takes them.

    Raises:
        InputError: re-entrant gradient checkpointing, batches of one row without negatives, or mining within a run whose
            weights are spread over processes.
    """

    data_collator_class = RowCollator
    model: Any
    is_fsdp_enabled: bool

    def __init__(
        self,
        *args: Any,
        dataset_weights: Mapping[str, float] | None = None,
        near_batches: Callable[[Dataset], NearRows] | None = None,
        guide: Guide | None = None,
        images: Corpus | None = None,
        remine: Remine | None = None,
        **kwargs: Any,
    ) -> None:
        self.remine: Remine | None = None
        self.dataset_weights, self.near_batches = dataset_weights, near_batches
        super().__init__(*args, **kwargs)
        self.data_collator.images = images
        if guide is not None:
            self.data_collator.guide = guide
        self.whole = self._whole_copy()
        if remine is not None:
            self._mine_within(remine)
        self._draw_positives()
        if (self.args.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise InputError(
                "gradient checkpointing with use_reentrant=True gives wrong gradients on several processes; set it to "
                "False, which is exact, or leave it out"
            )

    def _whole_copy(self) -> WholeCopy | None:
        """A whole copy of a student whose weights are spread over processes, by FSDP or ZeRO-3."""
        plugin = self.args.deepspeed_plugin
        if plugin is None or plugin.zero_stage < ZERO3:
            return WholeCopy(self.model, self.args.should_save) if self.is_fsdp_enabled else None
        if any(isinstance(loss, CachedInfoNCELoss) for loss in self._losses()):
            raise InputError(
                "GradCache goes backwards several times in a step, which ZeRO-3 cannot; leave mini_batch_size and "
                "mini_batch_num_tokens out, or spread the weights with fsdp2.yaml"
            )
        return ZeroCopy(self.model, self.args.should_save, plugin)

    def _mine_within(self, remine: Remine) -> None:
        """Let epochs begin where negatives are mined; the run is as long as without."""
        if self.whole is not None:
            raise InputError(
                "remine_steps: the student's weights are spread over processes, and it cannot encode; use ddp.yaml"
            )
        self.args.max_steps = self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]
        self.remine = remine
        self.data_collator.negatives = remine.negatives
        self.add_callback(remine)

    def _in_epochs(self, sampler: Any) -> Any:
        if self.remine is None:
            return sampler
        return StepsPerEpoch(sampler, self.remine.steps * self.args.gradient_accumulation_steps * self.args.world_size)

    def _draw_positives(self) -> None:
        """Let the collator draw one of a row's positives where the loss takes one at random."""
        collator = self.data_collator if isinstance(self.data_collator, RowCollator) else None
        self.add_callback(SetEpoch(collator))
        if collator is None:
            return
        collator.seed = self.args.seed
        collator.one_positive = any(loss.contrast.several_positives == "random" for loss in self._losses())
        if collator.one_positive and self.args.dataloader_persistent_workers:
            raise InputError(
                "several_positives: random draws anew in each epoch, which workers that stay do not learn of; leave "
                "dataloader_persistent_workers out"
            )

    def get_default_loss(self, model: SentenceTransformer) -> torch.nn.Module:
        """In-batch and own negatives, without a ceiling."""
        return InfoNCELoss(model)

    def get_batch_sampler(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> BatchSampler | None:
        """The batches of one data set."""
        made = self._batches_of(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        return self._in_epochs(made) if dataset is self.train_dataset else made

    def _batches_of(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None,
        generator: torch.Generator | None,
        seed: int,
    ) -> BatchSampler | None:
        if isinstance(dataset, IterableDataset) or self.args.batch_sampler not in OUR_BATCHES:
            return super().get_batch_sampler(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        joined = any(loss.contrast.gather_across_devices for loss in self._losses()) and self.args.world_size > 1
        if batch_size == 1 and not joined and not has_negatives(dataset.column_names):
            raise InputError(
                f"batches of one row with columns {dataset.column_names} have no negatives at all; raise "
                "per_device_train_batch_size, or mine negatives"
            )
        how = (dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        if self.near_batches is None or (IN_BATCH in dataset.column_names and not any(dataset[IN_BATCH])):
            return NoDuplicateTexts(*how)
        return NeighbourBatches(*how, near=self.near_batches(dataset), processes=self.args.world_size)

    def get_multi_dataset_batch_sampler(
        self,
        dataset: ConcatDataset,
        batch_samplers: list[BatchSampler],
        generator: torch.Generator | None = None,
        seed: int | None = 0,
    ) -> BatchSampler:
        """The turns of the data sets."""
        made = self._turns_of(dataset, batch_samplers, generator, seed)
        return self._in_epochs(made) if isinstance(self.train_dataset, dict) else made

    def _turns_of(
        self,
        dataset: ConcatDataset,
        batch_samplers: list[BatchSampler],
        generator: torch.Generator | None,
        seed: int | None,
    ) -> BatchSampler:
        chosen = self.args.multi_dataset_batch_sampler
        if not isinstance(chosen, MultiDatasetBatchSamplers):
            return super().get_multi_dataset_batch_sampler(dataset, batch_samplers, generator, seed)
        return SameDatasetPerStep(
            dataset,
            batch_samplers,
            generator,
            seed,
            names=self._names(dataset),
            mixing=self.dataset_weights or chosen.value,
            world_size=self.args.world_size,
        )

    def train(self, *args: object, **kwargs: object) -> TrainOutput:
        """As stock; one process on a CPU takes the quicker library for linear layers (:mod:`hf_posmine.encoding.linear_layers`)."""
        # Not with other processes: threads that gather would free its gradients' nodes, for which they need the interpreter,
        # also while it ends, and a process would abort.
        alone = self.args.device.type == "cpu" and self.args.world_size == 1 and not self.args.torch_compile
        with quicker_training(self.model) if alone else contextlib.nullcontext():
            return super().train(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As stock; a ceiling that moves is where it belongs at this step."""
        for loss in self._losses():
            move_ceiling(loss, self.state.global_step / max(1, self.state.max_steps))
        return super().training_step(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As stock, with the shares of in-batch pairs that were left out since the last log."""
        if "loss" in logs:
            counts = [loss.masked_pairs.take() for loss in self._losses()]
            if pairs := sum(count["pairs"] for count in counts):
                logs = logs | {f"masked_{why}": round(sum(c[why] for c in counts) / pairs, 4) for why in MASK_REASONS}
            if self.remine is not None:
                logs = logs | self.remine.take()
        super().log(logs, start_time)

    def whole_model(self) -> SentenceTransformer | None:
        """The model with all its weights: on every process, or with FSDP on the one that saves (else None).

        All processes must call this.
        """
        return self.model if self.whole is None else self.whole.gathered(self.model)

    def write_model(self, model: SentenceTransformer, output_dir: str | None = None) -> None:
        """Save a model that has all its weights."""
        live, self.model = self.model, model
        try:
            super()._save(output_dir)
        finally:
            self.model = live

    def _save(self, output_dir: str | None = None, state_dict: object = None) -> None:
        """As stock, on the process that saves: transformers 5 calls it on all, which would write into each other's files.

        ``state_dict`` is not used: with FSDP the whole copy is filled and saved.
        """
        model = self.whole_model()
        if model is not None and self.args.should_save:
            self.write_model(model, output_dir)

    def _load_from_checkpoint(self, checkpoint_path: str, model: torch.nn.Module | None = None) -> None:
        """Weights of a checkpoint into the live model; of adapters alone where there are any, in their own dtype."""
        if self.whole is None:
            self._load_into(self.model, checkpoint_path)
        else:
            self.whole.spread(self.model, lambda whole: self._load_into(whole, checkpoint_path))

    def load_weights(self, checkpoint: str) -> None:
        """Weights of a checkpoint into the live model, of which no step is left to train: it is not spread any more."""
        self.whole, self.is_fsdp_enabled = None, False
        with loading_whole(self.args.deepspeed_plugin):
            self._load_from_checkpoint(checkpoint)

    def _load_into(self, model: SentenceTransformer, checkpoint_path: str) -> None:
        plain = unwrapped(model)
        if isinstance(plain, InstructSentenceTransformer) and has_adapters(plain.backbone):
            restore_adapters(plain.backbone, checkpoint_path)
            return
        live, self.model = self.model, plain
        try:
            super()._load_from_checkpoint(checkpoint_path)
        finally:
            self.model = live

    def _load_best_model(self) -> None:
        """As stock, but a checkpoint that cannot be loaded ends the run: the stock trainer logs it and keeps the last."""
        best = str(self.state.best_model_checkpoint)
        self.model.model_card_data.set_best_model_step(int(best.rsplit("-", 1)[-1]))
        self._load_from_checkpoint(best)

    def _losses(self) -> list[InfoNCELoss | CachedInfoNCELoss]:
        """This package's losses, wherever they are wrapped; each once."""
        losses = self.loss.values() if isinstance(self.loss, dict) else [self.loss]
        found = [m for loss in losses for m in loss.modules() if isinstance(m, (InfoNCELoss, CachedInfoNCELoss))]
        return list(dict.fromkeys(found))

    def _names(self, dataset: ConcatDataset) -> list[str]:
        known = self.train_dataset.items() if isinstance(self.train_dataset, dict) else ()
        names = {id(part): name for name, part in known}
        return [names.get(id(part), str(number)) for number, part in enumerate(dataset.datasets)]
