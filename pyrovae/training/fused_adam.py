"""Torch's fused Adam, called directly with gradients."""

import torch
from torch import Tensor


class FusedAdam:
    """The update of torch's fused Adam on the optimiser's own state, without the optimiser's
    Python overhead."""

    optimizer: torch.optim.Optimizer
    parameters: list[Tensor]
    groups: list[tuple]
    """For each parameter group: the update, its settings, its parameters, their indices among
    all, and their state."""
    before: list[object]

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> "FusedAdam | None":
        """None for another optimiser, or one that does more than a plain Adam step."""
        kinds = {torch.optim.Adam: torch._fused_adam_, torch.optim.AdamW: torch._fused_adamw_}
        hooks = [*optimizer._optimizer_step_pre_hooks, *optimizer._optimizer_step_post_hooks]
        if (
            type(optimizer) not in kinds
            or hooks
            or not all(
                group.get("fused")
                and not group["amsgrad"]
                and not group["maximize"]
                and not isinstance(group["lr"], Tensor)
                for group in optimizer.param_groups
            )
        ):
            return None
        self = cls()
        self.optimizer, self.parameters, self.groups = optimizer, parameters, []
        places = {id(parameter): index for index, parameter in enumerate(parameters)}
        for group in optimizer.param_groups:
            own = [parameter for parameter in group["params"] if id(parameter) in places]
            if not own:
                continue
            states = [optimizer.state[parameter] for parameter in own]
            counts = torch.stack(
                [state["step"] for state in states]
            )  # step counters that are views of one tensor increase together
            for state, count in zip(states, counts.unbind()):
                state["step"] = count
            decoupled = (
                "decoupled_weight_decay" in optimizer.defaults and group["decoupled_weight_decay"]
            )  # from torch 2.7 on
            update = torch._fused_adamw_ if decoupled else kinds[type(optimizer)]
            self.groups.append(
                (
                    update,
                    group,
                    own,
                    [places[id(parameter)] for parameter in own],
                    counts,
                    *(
                        [state[name] for state in states]
                        for name in ("exp_avg", "exp_avg_sq", "step")
                    ),
                )
            )
        self.before = self._look()
        return self

    def is_current(self) -> bool:
        """Whether the optimiser is as it was when this was built, apart from the values of its
        state."""
        return self._look() == self.before

    def _look(self) -> list[object]:
        optimizer = self.optimizer
        return [
            *map(
                id,
                [
                    *optimizer._optimizer_step_pre_hooks.values(),
                    *optimizer._optimizer_step_post_hooks.values(),
                ],
            ),
            *(
                (
                    {name: value for name, value in group.items() if name != "params"},
                    [
                        (id(parameter), *map(id, optimizer.state.get(parameter, {}).values()))
                        for parameter in group["params"]
                    ],
                )
                for group in optimizer.param_groups
            ),
        ]

    @torch.no_grad()
    def __call__(self, gradients: list[Tensor], *, skip: Tensor | None = None) -> None:
        """Take one step. `skip`: 1.0 on the parameters' device to leave parameters and state
        unchanged."""
        for update, group, parameters, places, counts, first, second, steps in self.groups:
            counts += 1 if skip is None else 1 - skip
            update(
                parameters,
                [gradients[place] for place in places],
                first,
                second,
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                found_inf=skip,
            )
