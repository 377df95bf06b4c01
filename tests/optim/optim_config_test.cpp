#include "optim/optim_config.h"

#include <limits>

#include "tests/support/catch.h"

namespace ballast {

namespace {

template <class Kind>
void check_table(std::initializer_list<Kind> kinds) {
  CHECK(variant_rows<Kind>().size() == kinds.size());
  for (const Kind kind : kinds) {
    const auto* row = find_variant<Kind>(name_of(kind));
    REQUIRE(row != nullptr);
    CHECK(row->kind == kind);
    CHECK_FALSE(row->paper.empty());
  }
  for (const std::string_view name : planned_variants<Kind>()) {
    CHECK(find_variant<Kind>(name) == nullptr);
  }
}

}  // namespace

TEST_CASE("every kind of the optimiser's configuration has one row", "[optim][config]") {
  check_table({OptimizerKind::adamw, OptimizerKind::adam, OptimizerKind::sgd, OptimizerKind::lion});
  check_table({DecayForm::coupled, DecayForm::independent});
  check_table({DecayGroup::norm, DecayGroup::bias, DecayGroup::embedding, DecayGroup::head});
  check_table({ClipKind::none, ClipKind::global});
  check_table({ScheduleKind::constant, ScheduleKind::linear, ScheduleKind::cosine,
               ScheduleKind::wsd, ScheduleKind::inv_sqrt});
  CHECK(planned_variants<OptimizerKind>().empty());
  CHECK(planned_variants<ClipKind>().size() == 3);
}

TEST_CASE("the default optimiser is valid", "[optim][config]") {
  CHECK_NOTHROW(validate(OptimConfig{}));
}

TEST_CASE("values no update can be made with are refused by key", "[optim][config]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  OptimConfig c;
  SECTION("lr") {
    c.lr = GENERATE_COPY(0.0, -1.0, nan);
    CHECK_THROWS_WITH(validate(c), ContainsSubstring("optim.lr = "));
  }
  SECTION("betas") {
    c.betas = {0.9, GENERATE_COPY(1.0, -0.1, nan)};
    CHECK_THROWS_WITH(validate(c), ContainsSubstring("optim.betas = [0.9, "));
  }
  SECTION("eps") {
    c.eps = GENERATE_COPY(0.0, 1e-50, -1e-8, nan);
    CHECK_THROWS_WITH(validate(c), ContainsSubstring("optim.eps = "));
  }
  SECTION("eps where nothing is divided by it") {
    c.eps = 0.0;
    c.kind = GENERATE(OptimizerKind::sgd, OptimizerKind::lion);
    CHECK_NOTHROW(validate(c));
  }
  SECTION("weight_decay") {
    c.weight_decay = GENERATE_COPY(-0.1, nan);
    CHECK_THROWS_WITH(validate(c), ContainsSubstring("optim.weight_decay = "));
  }
  SECTION("max_norm") {
    c.clip.max_norm = GENERATE_COPY(0.0, -1.0, nan);
    CHECK_THROWS_WITH(validate(c), ContainsSubstring("optim.clip.max_norm = "));
    c.clip.kind = ClipKind::none;
    CHECK_NOTHROW(validate(c));
  }
  SECTION("warmup_steps") {
    c.schedule.warmup_steps = -1;
    CHECK_THROWS_WITH(validate(c), "optim.schedule.warmup_steps = -1; expected at least 0");
  }
  SECTION("min_lr") {
    c.schedule.min_lr = GENERATE_COPY(-1e-5, 1e-3, nan);
    CHECK_THROWS_WITH(validate(c), ContainsSubstring("optim.schedule.min_lr = "));
  }
  SECTION("decay_steps") {
    c.schedule.decay_steps = 0;
    CHECK_THROWS_WITH(validate(c), "optim.schedule.decay_steps = 0; expected at least 1, or null");
  }
}

}  // namespace ballast
