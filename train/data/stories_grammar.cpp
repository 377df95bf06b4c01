#include "train/data/stories.h"

namespace ballast {

// Changing a word here changes every run on this corpus: the golden batches in the tests say so.
std::string_view stories_grammar() {
  static constexpr std::string_view kText = R"(
@people name he him his He child
  Lily/she/her/her/She/girl; Tom/he/him/his/He/boy; Anna/she/her/her/She/girl
  Ben/he/him/his/He/boy; Mia/she/her/her/She/girl; Sam/he/him/his/He/boy
  Lucy/she/her/her/She/girl; Max/he/him/his/He/boy; Sara/she/her/her/She/girl
  Tim/he/him/his/He/boy; Emma/she/her/her/She/girl; Jack/he/him/his/He/boy
  Nora/she/her/her/She/girl; Leo/he/him/his/He/boy; Rosa/she/her/her/She/girl
  Finn/he/him/his/He/boy; Ella/she/her/her/She/girl; Omar/he/him/his/He/boy
  Zoe/she/her/her/She/girl; Hugo/he/him/his/He/boy; Clara/she/her/her/She/girl
  Peter/he/him/his/He/boy; Maya/she/her/her/She/girl; David/he/him/his/He/boy

@family name
  mother; father; grandmother; grandfather; older sister; older brother; aunt; uncle

@animals name a
  rabbit/a rabbit; fox/a fox; duck/a duck; frog/a frog; owl/an owl; mouse/a mouse; bear/a bear
  squirrel/a squirrel; turtle/a turtle; hedgehog/a hedgehog; goat/a goat; kitten/a kitten
  puppy/a puppy; pony/a pony; crow/a crow; lamb/a lamb; otter/an otter; swan/a swan

@places name
  the park; the river; the forest; the beach; the farm; the lake; the old mill; the market
  the school; the green hill; the harbor; the bakery; the library; the railway; the castle

@things name
  ball; kite; drum; hat; boat; bell; book; lamp; basket; blanket; scarf; whistle; wagon; puppet
  ladder; key; map; umbrella; rope; shovel; mirror; chair; flute; pillow

@looks name a
  red/a red; blue/a blue; big/a big; small/a small; shiny/a shiny; old/an old; new/a new
  soft/a soft; yellow/a yellow; wooden/a wooden; strange/a strange; pretty/a pretty
  heavy/a heavy; round/a round; golden/a golden; empty/an empty

@foods name
  bread; soup; honey; cheese; rice; apples; berries; cookies; pancakes; nuts; pears; carrots; plums

#story
  <opening> <plot> <ending>\n\n

#opening
  5* Once upon a time, there was <nature> child named {hero=people}. {hero.He} lived near {place=places} with {hero.his} {elder=family}.
  4* {hero=people} was <nature> {hero.child} who lived near {place=places}. Every <daytime>, {hero.he} liked to <hobby>.
  3* One <weather> <daytime>, {hero=people} went to {place=places} with {hero.his} {elder=family}. They wanted to <hobby>.
  2* It was a <weather> <daytime>, and {hero=people} was playing near {place=places}.
  2* Not far from {place=places} lived a child whose name was {hero=people}. {hero.He} was <nature> {hero.child}.

#nature
  a little
  a kind
  a brave
  a curious
  a shy
  a cheerful
  a clever
  a quiet
  a busy
  a gentle
  a lucky
  a funny

#hobby
  sing
  paint
  climb trees
  count the birds
  read
  bake
  dance in the rain
  draw
  tell jokes
  swim
  watch the clouds
  pick flowers
  fly a kite
  play the flute

#weather
  sunny
  rainy
  windy
  warm
  cold
  foggy
  snowy
  bright
  cloudy

#daytime
  3* morning
  2* afternoon
  2* evening
  1* day

#plot
  4* <lost>
  4* <rescue>
  3* <make>
  3* <night>
  3* <share>
  3* <visit>

#lost
  One day, {hero} could not find {hero.his} {look=looks} {thing=things}. <worry> <search_one>

#worry
  "Where can it be?" asked {hero.he}.
  "Oh no!" cried {hero}. "I must find it."
  {hero.He} felt <sad> and began to look for it.
  It was a gift from {hero.his} {elder=family}, and {hero.he} was <sad>.

#sad
  sad
  worried
  upset
  lonely
  sorry
  ashamed
  unhappy

#search_one
  3* {hero.He} looked <where>, but the {thing} was not there. <search_two>
  1* <ask>

#search_two
  2* {hero.He} looked <where>, but <nothing>. <search_three>
  2* <ask>

#search_three
  1* {hero.He} even looked <where>, but <nothing>. <ask>
  2* <ask>

#nothing
  found nothing
  there was only dust
  it was too dark to see
  all {hero.he} found was {look_2=looks.a} {thing_2=things}

#ask
  3* Then {hero.he} met {friend=people!hero}. "Have you seen my {thing}?" asked {hero}. <answer> {hero} thanked {friend} and gave {friend.him} some {food=foods}.
  2* A <size> {pet=animals} came by. "I know where it is," said the {pet}. "Follow me, {hero}." The {thing} was <where>! {hero} hugged the {pet} and gave it some {food=foods}.

#answer
  "Yes," said {friend}. "I saw it <where>." They ran there together, and {friend} was right!
  "No," said {friend}, "but I will help you." They looked <where>, and there was the {thing}!
  {friend} smiled and gave it back. "I found it <where>," {friend.he} said.

#size
  small
  large
  friendly
  sleepy
  hungry
  wise

#where
  under the bed
  behind the door
  in the tall grass
  near the old tree
  beside the well
  inside a box
  on top of the wall
  under a bench
  between two rocks
  in the kitchen
  behind the barn
  at the bottom of the stairs
  by the gate
  in the mud
  next to the pond
  among the flowers

#rescue
  Suddenly, {hero.he} heard a <sound>. It came from {pet=animals.a} that was <trouble>. <plea> <try_one>

#sound
  cry
  splash
  loud bang
  tiny voice
  crash
  whisper
  rustle in the leaves

#trouble
  stuck in a hole
  caught in a net
  lost in the fog
  trapped under a log
  tangled in a rope
  too tired to walk
  hanging from a branch

#plea
  "Please help me," said the {pet}.
  The {pet} was shaking with fear.
  "Do not worry," said {hero} to the {pet}. "I am here."
  {hero} looked at the {pet} and felt <sad>.

#try_one
  3* {hero.He} tried to <method>, but it did not work. <try_two>
  2* <saved>

#try_two
  1* Next, {hero.he} tried to <method>, but that was no use. <saved>
  2* <saved>

#method
  pull with both hands
  push the {look_2=looks} {thing_2=things} aside
  dig with a stick
  reach with {look_2=looks.a} {thing_2=things}
  call for help
  untie the knot
  make a bridge of stones

#saved
  Then {hero} had an idea. {hero.He} ran to {place} and came back with {look=looks.a} {thing=things}. With the {thing}, it was easy, and the {pet} was free! <thanks>
  Just then, {friend=people!hero} came along. {friend} and {hero} worked together, and soon the {pet} was free! <thanks>
  At last, {hero.his} {elder=family} came with {look=looks.a} {thing=things} and set the {pet} free. <thanks>

#thanks
  "Thank you, {hero}," said the {pet}. "You are a good friend."
  The {pet} danced with joy.
  The {pet} gave {hero} {look_2=looks.a} {thing_2=things} to say thank you.
  After that, the {pet} came to see {hero} every <daytime>.

#make
  {hero} wanted to make {look=looks.a} {thing=things} for {hero.his} {elder=family}. First, {hero.he} needed some <stuff>. <get_one> <work>

#stuff
  wood
  paper
  string
  cloth
  clay
  glue
  nails
  paint
  leather
  feathers

#get_one
  2* {hero.He} found it <where>. <get_two>
  1* {friend=people!hero} had some and was happy to share. <get_two>

#get_two
  2* Then {hero.he} needed some <stuff>, and that was <where>.
  1* There was <plenty> <where>.

#plenty
  enough of it
  more of it
  a whole bag of it

#work
  2* "It is too hard for you," said {friend=people!hero}, but {hero} did not give up. {hero.He} worked for <time>, and the {thing} was <done>! <praise>
  2* {hero.He} worked for <time>. When {hero.he} was almost done, the {thing} broke. "I will try again," said {hero}. In the end, it was <done>. <praise>
  1* {friend=people!hero} came to help. {friend} held the <stuff>, and {hero} did the rest. Soon the {thing} was <done>. <praise>

#time
  an hour
  two hours
  three days
  a whole week
  a long time
  many days

#done
  ready
  better than before
  perfect
  finished
  the best in town
  as good as new

#praise
  "I love this {thing}," said {hero.his} {elder}.
  They hugged each other, and from then on they used the {thing} every <daytime>.
  Nobody near {place} had ever seen such {look.a} {thing}.

#night
  That night, {hero.he} could not sleep. There was a <sound> outside. {hero} <fear>. "Who is there?" {hero.he} whispered. <reveal>

#fear
  hid under the {look_2=looks} blanket
  was very scared
  held {hero.his} breath
  lit {look_2=looks.a} lamp
  sat up in bed

#reveal
  2* It was only {pet=animals.a} looking for some {food=foods}. "You scared me, {pet}," said {hero}. <feed>
  1* A voice said, "It is only me, {friend=people!hero}. I cannot find my {thing=things}." {hero} opened the door, and they found the {thing} <where>.
  1* Nobody answered. {hero} went to look with {hero.his} {elder=family}. They found {look=looks.a} {thing=things} that the wind had blown over. They laughed and put the {thing} <where>.

#feed
  The {pet} said it was sorry, and {hero} gave it all the {food} {hero.he} had.
  {hero} let the {pet} come in, and they ate {food} together <where>.
  "I was cold and hungry," said the {pet}. So {hero} made a bed for the {pet} <where>.

#share
  {hero} had <container> of {food=foods}. {friend=people!hero} came by and looked hungry. "May I have some?" asked {friend}. <decide>

#container
  a basket
  a bowl
  a big bag
  a plate
  a box
  a pot

#decide
  2* "No, it is all mine," said {hero}. {friend} went away and felt <sad>. But the {food} did not taste good. {hero} ran after {friend} and gave {friend.him} <part>. <third>
  3* "Of course," said {hero}. They sat <where> and ate the {food} together. <third>

#part
  half of it
  the biggest part
  all that was left
  some of it

#third
  1* {other_friend=people!hero!friend} saw them and came to sit with them. "I have some {food_2=foods}," said {other_friend}. "Let us share." So {hero}, {friend} and {other_friend} had a feast.
  2* "You are kind, {hero}," said {friend}. "Tomorrow I will bring {look_2=looks.a} {thing_2=things} for you."
  1* Then {friend} and {hero} went to {place} to <hobby>.

#visit
  Then {friend=people!hero} came to visit with {look=looks.a} {thing=things}. "Let us play with it," said {friend}. They played <where>, but <accident>. <blame>

#accident
  the {thing} broke
  the {thing} fell into the water
  it began to rain
  {pet=animals.a} took the {thing} and ran away
  they lost the {thing}
  a <sound> scared them

#blame
  2* "It is my fault," said {hero}. "I am sorry." {friend} was not angry. "<comfort>," {friend.he} said.
  1* {friend} began to cry. {hero} gave {friend.him} {hero.his} own {look_2=looks} {thing}, and {friend} felt better.
  1* "It is your fault!" cried {friend}. {hero} felt <sad>. But after <time>, {friend} came back and said sorry.

#comfort
  We can fix it
  You are my best friend
  It does not matter
  We will find a way
  Let us try again

#ending
  3* {hero} went home and told {hero.his} {elder=family} all about it.
  2* And {hero} learned that <moral>.
  2* That night, {hero} fell asleep with a smile.
  2* From then on, {hero} was never <sad> again.
  2* "What a <wonderful> day!" said {hero}. The end.
  1* Everyone near {place} was happy for {hero}.

#moral
  it is good to share
  friends help each other
  it is fine to ask for help
  one must never give up
  being brave is not always easy
  telling the truth is best
  small things can be the most important
  kindness comes back to you

#wonderful
  wonderful
  strange
  lovely
  great
  busy
  long
)";
  return kText;
}

}  // namespace ballast
