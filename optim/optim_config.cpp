#include "optim/optim_config.h"

#include <cmath>

#include "optim/optimizer.h"

namespace ballast {

namespace {

bool is_share(double x) {
  return x >= 0.0 && x < 1.0;
}
bool is_finite_at_least_0(double x) {
  return std::isfinite(x) && x >= 0.0;
}

}  // namespace

// The negated forms would let a NaN pass; every condition below is false for one.
void validate(const OptimConfig& c) {
  check(std::isfinite(c.lr) && c.lr > 0.0, "optim.lr = ", c.lr, "; expected a positive number");
  check(is_share(c.betas[0]) && is_share(c.betas[1]), "optim.betas = [", c.betas[0], ", ",
        c.betas[1], "]; expected two numbers of at least 0 and below 1");
  // With eps = 0 in float arithmetic a parameter that never had a gradient becomes 0/0.
  check(!traits_of(c.kind).uses_eps || (std::isfinite(c.eps) && static_cast<float>(c.eps) > 0.0F),
        "optim.eps = ", c.eps, "; expected a positive number that is not 0 as a float");
  check(is_finite_at_least_0(c.weight_decay), "optim.weight_decay = ", c.weight_decay,
        "; expected a number of at least 0");
  check(c.clip.kind == ClipKind::none || (std::isfinite(c.clip.max_norm) && c.clip.max_norm > 0.0),
        "optim.clip.max_norm = ", c.clip.max_norm,
        "; expected a positive number, or optim.clip.kind: none");
  const ScheduleConfig& s = c.schedule;
  check(s.warmup_steps >= 0, "optim.schedule.warmup_steps = ", s.warmup_steps,
        "; expected at least 0");
  check(s.min_lr >= 0.0 && s.min_lr <= c.lr, "optim.schedule.min_lr = ", s.min_lr,
        "; expected at least 0 and at most optim.lr = ", c.lr);
  check(s.decay_steps.value_or(1) >= 1, "optim.schedule.decay_steps = ", s.decay_steps.value_or(1),
        "; expected at least 1, or null");
}

template <>
std::span<const VariantRow<OptimizerKind>> variant_rows() {
  static constexpr VariantRow<OptimizerKind> kRows[] = {
      {OptimizerKind::adamw, "adamw", "Loshchilov & Hutter 2017, arXiv 1711.05101"},
      {OptimizerKind::adam, "adam",
       "Kingma & Ba 2014, arXiv 1412.6980; weight_decay is added to the gradient"},
      {OptimizerKind::sgd, "sgd",
       "Polyak 1964: momentum betas[0]; weight_decay is added to the gradient"},
      {OptimizerKind::lion, "lion",
       "Chen et al. 2023, arXiv 2302.06675; its authors take betas [0.9, 0.99]"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<DecayForm>> variant_rows() {
  static constexpr VariantRow<DecayForm> kRows[] = {
      {DecayForm::coupled, "coupled", "adamw, lion, as in PyTorch: w -= lr_t * wd * w"},
      {DecayForm::independent, "independent",
       "Wortsman et al. 2023, arXiv 2309.14322: w -= (lr_t / lr) * wd * w"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<DecayGroup>> variant_rows() {
  static constexpr VariantRow<DecayGroup> kRows[] = {
      {DecayGroup::norm, "norm", "gains of norms, alpha, layer scales"},
      {DecayGroup::bias, "bias", "biases, attention sinks, the T5 table"},
      {DecayGroup::embedding, "embedding", "token embedding (also as a tied head), positions"},
      {DecayGroup::head, "head", "untied output head"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<ClipKind>> variant_rows() {
  static constexpr VariantRow<ClipKind> kRows[] = {
      {ClipKind::none, "none", "gradients as they are"},
      {ClipKind::global, "global", "Pascanu et al. 2012, arXiv 1211.5063: norm of all gradients"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<ScheduleKind>> variant_rows() {
  static constexpr VariantRow<ScheduleKind> kRows[] = {
      {ScheduleKind::constant, "constant", "lr after the warm-up"},
      {ScheduleKind::linear, "linear", "straight line to min_lr"},
      {ScheduleKind::cosine, "cosine", "Loshchilov & Hutter 2016, arXiv 1608.03983: one half wave"},
      {ScheduleKind::wsd, "wsd", "Hu et al. 2024, arXiv 2404.06395: warm-up, stable, linear decay"},
      {ScheduleKind::inv_sqrt, "inv_sqrt", "Vaswani et al. 2017, arXiv 1706.03762"},
  };
  return kRows;
}

template <>
std::span<const std::string_view> planned_variants<ClipKind>() {
  static constexpr std::string_view kNames[] = {"zclip", "adagc", "update"};
  return kNames;
}

}  // namespace ballast
